-- Numbers, stores and publishes one event.
-- ARGV: body, size ('?10' = as stored, or else 10; '?' = as stored, or not at all), age in
-- ms (0 = any), ms to remember the position, channel, command, epoch if there is none.
-- Returns epoch, offset and the id of the event before; '', 0 and '' if the topic has no
-- history.
local m = redis.call('HMGET', KEYS[1], 'e', 'o', 'k', 'i')
local size, age = ARGV[2], ARGV[3]
if string.sub(size, 1, 1) == '?' then
  size = string.sub(size, 2)
  if m[3] then
    size, age = string.match(m[3], '^(%d+) (%d+)$')
  elseif size == '' then
    redis.call(ARGV[6], ARGV[5], 'p' .. ARGV[1])
    return {'', '0', ''}
  end
end
local epoch = m[1]
if not epoch then
  epoch = ARGV[7]
  redis.call('DEL', KEYS[2])
end
local offset = string.format('%.0f', tonumber(m[2] or '0') + 1)
local before = m[4] or string.rep('\0', 16)
local now = redis.call('TIME')
local ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local keep = size .. ' ' .. age
if epoch ~= m[1] or keep ~= m[3] then
  redis.call('HSET', KEYS[1], 'e', epoch, 'k', keep, 'o', offset, 'i', string.sub(ARGV[1], 1, 16))
else
  redis.call('HSET', KEYS[1], 'o', offset, 'i', string.sub(ARGV[1], 1, 16))
end
redis.call('XADD', KEYS[2], 'MAXLEN', size, offset .. '-0', 'b', ARGV[1], 't', ms)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if age == '0' then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
else
  redis.call('PEXPIRE', KEYS[2], age)
  if offset % 64 == 0 then -- now and then: whoever reads trims exactly
    local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 128)
    local keepFrom
    for _, entry in ipairs(oldest) do
      if ms - entry[2][4] <= tonumber(age) then break end
      keepFrom = entry[1]
    end
    if keepFrom then
      redis.call('XTRIM', KEYS[2], 'MINID', (string.gsub(keepFrom, '%-0$', '-1')))
    end
  end
end
redis.call(ARGV[6], ARGV[5], 'h' .. epoch .. ' ' .. offset .. ' ' .. before .. ARGV[1])
return {epoch, offset, before}
