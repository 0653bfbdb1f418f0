-- Says how a stream stands and reads a page of it, after what is too old is gone.
-- ARGV: offset to read after, limit, age in ms (0 = any), epoch if there is none ('' =
-- leave it so), ms to remember an unused position, size. Returns epoch, offset, id of
-- the newest event, then ids and bodies in turn; nothing if there is no stream.
local m = redis.call('HMGET', KEYS[1], 'e', 'o', 'i')
if not m[1] then
  if ARGV[4] == '' then
    return {}
  end
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'e', ARGV[4], 'o', '0', 'k', ARGV[6] .. ' ' .. ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  return {ARGV[4], '0', ''}
end
local age = tonumber(ARGV[3])
if age > 0 then
  local now = redis.call('TIME')
  local from = now[1] * 1000 + math.floor(now[2] / 1000) - age
  local last
  repeat
    last = nil
    local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 64)
    for _, entry in ipairs(oldest) do
      if tonumber(entry[2][4]) >= from then break end
      last = entry[1]
    end
    if last then
      local n, ms = string.match(last, '^(%d+)%-(%d+)$')
      redis.call('XTRIM', KEYS[2], 'MINID', n .. '-1')
    end
  until not last or last ~= oldest[#oldest][1]
end
local after = ARGV[1]
local gone = tonumber(m[2]) - tonumber(ARGV[6]) -- beyond the size; the stream keeps some more
if tonumber(after) < gone then
  after = string.format('%.0f', gone)
end
local answer = {m[1], m[2], m[3] or ''}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. after .. '-0', '+', 'COUNT', ARGV[2])) do
  answer[#answer + 1] = entry[1]
  answer[#answer + 1] = entry[2][2]
end
return answer
