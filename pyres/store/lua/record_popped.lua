-- record_popped: writes the in-flight record of the job that a blocking pop returned.
--
-- KEYS[1]  (STRING)  the in-flight record: Keys.worker()
-- KEYS[2]  (STRING)  Keys.stat("processed:<id>")
-- KEYS[3]  (STRING)  Keys.started()
-- ARGV[1]  the value of KEYS[2] that the worker expects; if none, that of KEYS[3]; if none, ""
-- ARGV[2]  the in-flight record to write
-- returns  {1} when the record is written, now or before;
--          {0, the in-flight record or nil} and nothing done if ARGV[1] is wrong, or another job is in flight: this
--          call is so late that its worker has sent another one since, or has ended
-- A key of the wrong type counts as missing; SET replaces an in-flight record of the wrong type.
-- The first write frees memory: on a full server a script that has written once may write on.
local count = redis.pcall("GET", KEYS[2])
if type(count) ~= "string" then count = redis.pcall("GET", KEYS[3]) end
local record = redis.pcall("GET", KEYS[1])
if type(record) ~= "string" then record = nil end
if record == ARGV[2] then return {1} end
if record or (type(count) == "string" and count or "") ~= ARGV[1] then return {0, record or false} end
redis.call("DEL", KEYS[1])
redis.call("SET", KEYS[1], ARGV[2])
return {1}
