-- fire: enqueues the job of a schedule entry for one moment, unless that moment was fired already.
--
-- KEYS[1]  HASH    Keys.schedule_fired
-- KEYS[2]  HASH    Keys.last_enqueued_at
-- KEYS[3]  SET     Keys.queues
-- KEYS[4]  LIST    Keys.queue()
-- KEYS[5]  STRING  Keys.unique() of the job; left alone without ARGV[7]
-- ARGV[1]  the entry's name
-- ARGV[2]  the moment, epoch seconds
-- ARGV[3]  the latest moment that may have been fired before, epoch seconds
-- ARGV[4]  the time now, as Ruby's Time#to_s
-- ARGV[5]  the queue's name
-- ARGV[6]  the payload
-- ARGV[7]  the claim of a unique job, or ""
-- ARGV[8]  the claim's time to live, milliseconds
-- returns  1 when it was enqueued, 0 when it had been fired, 2 when a job like it was enough
local fired = tonumber(redis.call("HGET", KEYS[1], ARGV[1]))
if fired and fired > tonumber(ARGV[3]) then return 0 end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
if ARGV[7] ~= "" and not redis.call("SET", KEYS[5], ARGV[7], "NX", "PX", ARGV[8]) then return 2 end
redis.call("SADD", KEYS[3], ARGV[5])
redis.call("RPUSH", KEYS[4], ARGV[6])
redis.call("HSET", KEYS[2], ARGV[1], ARGV[4])
return 1
