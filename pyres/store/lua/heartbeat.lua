-- heartbeat: notes that workers are alive.
--
-- KEYS[1]   (HASH)  Keys.heartbeats
-- KEYS[2]   (SET)   Keys.workers
-- ARGV[1]   the server's time as Resque shows it
-- ARGV[2..] the workers' ids
-- returns   {those of them that are not registered, those of the keys that are of another type}: such a key is left as
--           it is, and where it is KEYS[2] nobody can register
-- The first write frees memory: a script that has begun to write may go on where the server is full.
-- uses      usable
local missing = {}
local beats, workers = usable(1, "hash"), usable(2, "set")
for at = 2, #ARGV do
    if beats then
        redis.call("HDEL", KEYS[1], ARGV[at])
        redis.call("HSET", KEYS[1], ARGV[at], ARGV[1])
    end
    if workers and redis.call("SISMEMBER", KEYS[2], ARGV[at]) == 0 then missing[#missing + 1] = ARGV[at] end
end
return {missing, wrong}
