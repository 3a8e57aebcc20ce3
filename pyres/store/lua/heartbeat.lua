-- heartbeat: writes the heartbeats of workers.
--
-- KEYS[1]   (HASH)  Keys.heartbeats
-- KEYS[2]   (SET)   Keys.workers
-- ARGV[1]   the server's time as Resque writes it
-- ARGV[2..] the workers' ids
-- returns   {the workers that are not registered, the keys of the wrong type, which are left unchanged}; none is
--           reported as not registered if KEYS[2] has the wrong type, since no worker can register then
-- The first write frees memory: on a full server a script that has written once may write on.
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
