-- Sees whether the server takes writes and publishes. ARGV: channel, command, text.
redis.call('SET', KEYS[1], ARGV[3], 'PX', '60000')
return redis.call(ARGV[2], ARGV[1], ARGV[3])
