-- hasten_delayed: moves every copy of a payload that waits at a timestamp to its queue, now.
--
-- KEYS[1]  LIST  Keys.delayed()
-- KEYS[2]  ZSET  Keys.delayed_schedule
-- KEYS[3]  SET   Keys.timestamps() of the payload
-- KEYS[4]  SET   Keys.queues
-- KEYS[5]  LIST  Keys.queue()
-- ARGV[1]  the timestamp, epoch seconds
-- ARGV[2]  Keys.delayed_name()
-- ARGV[3]  the payload
-- ARGV[4]  the payload as it goes onto the queue
-- ARGV[5]  the queue's name
-- returns  how many were moved
local moved = redis.call("LREM", KEYS[1], 0, ARGV[3])
redis.call("SREM", KEYS[3], ARGV[2])
for _ = 1, moved do redis.call("RPUSH", KEYS[5], ARGV[4]) end
if moved > 0 then redis.call("SADD", KEYS[4], ARGV[5]) end
if redis.call("LLEN", KEYS[1]) == 0 then redis.call("ZREM", KEYS[2], ARGV[1]) end
return moved
