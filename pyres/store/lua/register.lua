-- register: registers a worker with its process and its first heartbeat, in one step.
--
-- KEYS[1]  (SET)     Keys.workers
-- KEYS[2]  (SET)     Keys.minions
-- KEYS[3]  (STRING)  Keys.started()
-- KEYS[4]  (HASH)    Keys.process_starts
-- KEYS[5]  (HASH)    Keys.heartbeats
-- ARGV[1]  the worker's id
-- ARGV[2]  when it started, as text
-- ARGV[3]  "1" for a minion, else "0"
-- ARGV[4]  its process (see Keys.process_starts), or ""
-- ARGV[5]  the server's time as Resque writes it, or "" for no heartbeat
-- returns  the keys of the wrong type, which are left unchanged
-- The first write frees memory: on a full server a script that has written once may write on.
-- uses     usable
local workers = usable(1, "set")
local minions = ARGV[3] == "1" and usable(2, "set")
local starts = ARGV[4] ~= "" and usable(4, "hash")
local beats = ARGV[5] ~= "" and usable(5, "hash")
redis.call("DEL", KEYS[3])
redis.call("SET", KEYS[3], ARGV[2])
if workers then redis.call("SADD", KEYS[1], ARGV[1]) end
if minions then redis.call("SADD", KEYS[2], ARGV[1]) end
if starts then redis.call("HSET", KEYS[4], ARGV[1], ARGV[4]) end
if beats then redis.call("HSET", KEYS[5], ARGV[1], ARGV[5]) end
return wrong
