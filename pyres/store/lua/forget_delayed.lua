-- forget_delayed: removes all that waits at a timestamp, and the timestamp.
--
-- KEYS[1]  LIST  Keys.delayed()
-- KEYS[2]  ZSET  Keys.delayed_schedule
-- ARGV[1]  the timestamp, epoch seconds
-- ARGV[2]  Keys.timestamps_prefix: one SET a payload, named by the payload itself, so walked here
-- ARGV[3]  Keys.delayed_name()
-- returns  how many payloads there were
local payloads = redis.call("LRANGE", KEYS[1], 0, -1)
for _, payload in ipairs(payloads) do redis.pcall("SREM", ARGV[2] .. payload, ARGV[3]) end
redis.call("DEL", KEYS[1])
redis.call("ZREM", KEYS[2], ARGV[1])
return #payloads
