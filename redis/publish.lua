-- Numbers, stores and publishes one event.
-- ARGV: body, size ('?10' = as stored, or else 10; '?' = as stored, or not at all), age in
-- ms (0 = any), ms to remember the position, channel, command, epoch if there is none.
-- Returns epoch, offset and the id of the event before; '', 0 and '' if the topic has no
-- history.
local m = redis.call('HMGET', KEYS[1], 'e', 'o', 'k', 'i', 'x')
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
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local stamp = string.format('%.0f', ms)
local keep = size .. ' ' .. age
local life = age == '0' and ARGV[4] or age -- of the stream

-- Both keys live a little longer than they must, so that not every event has to say so.
local fresh = epoch == m[1] and keep == m[3] and m[5] and ms - m[5] < math.min(life, ARGV[4]) / 64
if fresh then
  redis.call('HSET', KEYS[1], 'o', offset, 'i', string.sub(ARGV[1], 1, 16))
else
  redis.call('HSET', KEYS[1], 'e', epoch, 'k', keep, 'o', offset, 'i', string.sub(ARGV[1], 1, 16), 'x', stamp)
end

-- Whole nodes of the stream are dropped, which is cheap: readers know the bound.
redis.call('XADD', KEYS[2], 'MAXLEN', '~', size, offset .. '-0', 'b', ARGV[1], 't', stamp)
if not fresh then
  redis.call('PEXPIRE', KEYS[1], math.floor(ARGV[4] * 65 / 64))
  redis.call('PEXPIRE', KEYS[2], math.ceil(life * 65 / 64))
end
if age ~= '0' and offset % 16 == 0 then -- now and then: readers trim exactly
  for _ = 1, 32 do
    local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
    if not oldest or ms - oldest[2][4] <= tonumber(age) then break end
    redis.call('XDEL', KEYS[2], oldest[1])
  end
end
redis.call(ARGV[6], ARGV[5], 'h' .. epoch .. ' ' .. offset .. ' ' .. before .. ARGV[1])
return {epoch, offset, before}
