-- delay: delays a payload until a timestamp.
--
-- KEYS[1]  LIST  Keys.delayed()
-- KEYS[2]  SET   Keys.timestamps() of the payload
-- KEYS[3]  ZSET  Keys.delayed_schedule
-- ARGV[1]  the timestamp, epoch seconds
-- ARGV[2]  Keys.delayed_name()
-- ARGV[3]  the payload
-- returns  how many payloads the timestamp has then
local size = redis.call("RPUSH", KEYS[1], ARGV[3])
redis.call("SADD", KEYS[2], ARGV[2])
redis.call("ZADD", KEYS[3], ARGV[1], ARGV[1])
return size
