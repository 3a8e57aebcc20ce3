-- take_back: removes the failure record of a job that was declared dead and then succeeded, if it is among the newest.
--
-- KEYS[1]  HASH      Keys.declared_dead() of the worker: `hand`, `record`
-- KEYS[2]  LIST      Keys.failed or Keys.failure_list(): the list of the record
-- KEYS[3]  (STRING)  Keys.stat("failed")
-- KEYS[4]  (STRING)  Keys.stat("processed")
-- ARGV[1]  the in-flight record of the job that succeeded
-- ARGV[2]  how many of the newest records are searched
-- ARGV[3]  how often the job was counted in KEYS[3] when it was declared dead
-- ARGV[4]  the same for KEYS[4], where it was counted once more when it ended
-- returns  1 when the record was removed; 0 if it was not found, for example since it was retried; -1 for another job
if redis.call("HGET", KEYS[1], "hand") ~= ARGV[1] then return -1 end
local record = redis.call("HGET", KEYS[1], "record")
-- Servers before Redis 6.0.6 have no LPOS; there the record stays.
local index = redis.pcall("LPOS", KEYS[2], record, "RANK", -1, "MAXLEN", ARGV[2])
local found = type(index) == "number" and 1 or 0
redis.call("DEL", KEYS[1])
if found == 1 then
    redis.call("LREM", KEYS[2], -1, record)
    redis.pcall("DECRBY", KEYS[3], ARGV[3])
end
redis.pcall("DECRBY", KEYS[4], ARGV[4])
return found
