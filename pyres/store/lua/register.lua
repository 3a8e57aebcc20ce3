-- register: announces a worker, and which process it is, in one step.
--
-- KEYS[1]  (SET)     Keys.workers
-- KEYS[2]  (SET)     Keys.minions
-- KEYS[3]  (STRING)  Keys.started()
-- KEYS[4]  (HASH)    Keys.process_starts
-- ARGV[1]  the worker's id
-- ARGV[2]  when it started, as text
-- ARGV[3]  "1" for a minion, else "0"
-- ARGV[4]  which process it is, or ""
-- returns  those of the keys that are of another type, and are left as they are
-- The first write frees memory: a script that has begun to write may go on where the server is full.
-- uses     usable
local workers = usable(1, "set")
local minions = ARGV[3] == "1" and usable(2, "set")
local marks = ARGV[4] ~= "" and usable(4, "hash")
redis.call("DEL", KEYS[3])
redis.call("SET", KEYS[3], ARGV[2])
if workers then redis.call("SADD", KEYS[1], ARGV[1]) end
if minions then redis.call("SADD", KEYS[2], ARGV[1]) end
if marks then redis.call("HSET", KEYS[4], ARGV[1], ARGV[4]) end
return wrong
