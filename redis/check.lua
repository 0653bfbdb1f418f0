-- Says how a stream stands that has members somewhere, and sees to it that it is
-- remembered. ARGV: epoch if there is none, retention, ms to remember a position, ms to
-- remember an unused one. Returns epoch, offset, id of the newest event.
local m = redis.call('HMGET', KEYS[1], 'e', 'o', 'i', 'k')
if not m[1] then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'e', ARGV[1], 'o', '0', 'k', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {ARGV[1], '0', ''}
end
if m[4] ~= ARGV[2] then
  redis.call('HSET', KEYS[1], 'k', ARGV[2])
end
local ttl = tonumber(ARGV[3])
if m[2] == '0' then
  ttl = tonumber(ARGV[4])
end
if redis.call('PTTL', KEYS[1]) < ttl / 2 then
  redis.call('PEXPIRE', KEYS[1], ttl)
  if string.find(ARGV[2], ' 0$') then
    redis.call('PEXPIRE', KEYS[2], ttl)
  end
end
return {m[1], m[2], m[3] or ''}
