-- heartbeat: notes that workers are alive.
--
-- KEYS[1]   HASH  Keys.heartbeats
-- KEYS[2]   SET   Keys.workers
-- ARGV[1]   the server's time as Resque shows it
-- ARGV[2..] the workers' ids
-- returns   those of them that are not registered
-- The first write frees memory: a script that has begun to write may go on where the server is full.
local missing = {}
for at = 2, #ARGV do
    redis.call("HDEL", KEYS[1], ARGV[at])
    redis.call("HSET", KEYS[1], ARGV[at], ARGV[1])
    if redis.call("SISMEMBER", KEYS[2], ARGV[at]) == 0 then missing[#missing + 1] = ARGV[at] end
end
return missing
