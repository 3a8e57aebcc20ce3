-- record_popped: writes the job that a blocking pop gave into its worker's in-flight record.
--
-- KEYS[1]  (STRING)  the in-flight record: Keys.worker()
-- KEYS[2]  (STRING)  Keys.stat("processed:<id>")
-- KEYS[3]  (STRING)  Keys.started()
-- ARGV[1]  what is in KEYS[2] as the worker knows it; if nothing, in KEYS[3]; if nothing, ""
-- ARGV[2]  the in-flight record to write
-- returns  {1} when the record is there now;
--          {0, the in-flight record or nil} and nothing done when ARGV[1] is not so, or another job is there: this
--          call comes so late that its worker has sent another since, or is gone
-- A key of another type counts as missing, but for the in-flight record: SET replaces that.
-- The first write frees memory: a script that has begun to write may go on where the server is full.
local known = redis.pcall("GET", KEYS[2])
if type(known) ~= "string" then known = redis.pcall("GET", KEYS[3]) end
local record = redis.pcall("GET", KEYS[1])
if type(record) ~= "string" then record = nil end
if record == ARGV[2] then return {1} end
if record or (type(known) == "string" and known or "") ~= ARGV[1] then return {0, record or false} end
redis.call("DEL", KEYS[1])
redis.call("SET", KEYS[1], ARGV[2])
return {1}
