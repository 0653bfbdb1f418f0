-- Begins a new epoch after a failover that lost events, if no other node has. The
-- events that are left, and the count, stay. ARGV: the epoch that was seen, a new one.
if redis.call('HGET', KEYS[1], 'e') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'e', ARGV[2])
end
return 1
