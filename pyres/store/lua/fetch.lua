-- fetch: counts the finished job, and moves the oldest payload of the first non-empty queue into the in-flight record.
--
-- KEYS[1]     (STRING)  the in-flight record: Keys.worker()
-- KEYS[2]     (STRING)  Keys.stat("processed")
-- KEYS[3]     (STRING)  Keys.stat("processed:<id>")
-- KEYS[4]     (STRING)  Keys.started()
-- KEYS[5]     (STRING)  Keys.pause
-- KEYS[6]     (SET)     Keys.workers
-- KEYS[7..n]  (LIST)    Keys.queue(), highest priority first
-- ARGV[1]     "0" if there is no in-flight record, "1" if its job is finished, "2" if it may be overwritten
-- ARGV[2]     the time now, as the record's run_at
-- ARGV[3]     the value of KEYS[3] that the worker expects; if none, that of KEYS[4]; if none, ""
-- ARGV[4]     the worker's id
-- ARGV[5..]   the name of each queue as JSON, in the order of KEYS[7..n]
-- returns     {processed by this worker, index from 1 of the queue, payload};
--             {processed, 0} when all are empty, {processed, -1} when the workers are paused;
--             {processed, -2, the in-flight record or nil} and nothing done if ARGV[1] or ARGV[3] is wrong: this call
--             was executed before, or is so late that its worker has sent another one since, or has ended;
--             {processed, -3} and nothing done if there are queues, and the worker is not in KEYS[6]
-- A key of the wrong type, and a counter that is not an integer, count as missing: neither may cost a job or stop the
-- other queues. What can fail comes before the first write, which frees memory: a full server can be drained.
if #KEYS > 6 and redis.pcall("SISMEMBER", KEYS[6], ARGV[4]) == 0 then return {0, -3} end
local count = redis.pcall("GET", KEYS[3])
count = type(count) == "string" and count
local processed = tonumber(count or 0) or 0
if not count then
    local started = redis.pcall("GET", KEYS[4])
    count = type(started) == "string" and started or ""
end
if count ~= ARGV[3] then
    local record = redis.pcall("GET", KEYS[1])
    return {processed, -2, type(record) == "string" and record}
end
if ARGV[1] == "0" then
    local record = redis.pcall("GET", KEYS[1])
    if type(record) == "string" then return {processed, -2, record} end
end
local paused = redis.pcall("GET", KEYS[5])
paused = type(paused) == "string" and string.match(string.lower(paused), "^%s*true%s*$")
local index, payload = 0, nil
for i = 7, paused and 6 or #KEYS do
    payload = redis.pcall("LPOP", KEYS[i])
    if type(payload) == "string" then
        index = i - 6
        break
    end
    -- The error of a server that refuses writes comes here, before anything was done.
    if payload and not string.find(payload.err, "WRONGTYPE", 1, true) then return payload end
end
if index > 0 then
    redis.call("SET", KEYS[1], '{"queue":' .. ARGV[index + 4] .. ',"run_at":"' .. ARGV[2] .. '","payload":' .. payload .. '}')
elseif ARGV[1] == "1" then
    redis.call("DEL", KEYS[1])
end
if ARGV[1] == "1" then
    processed = redis.pcall("INCRBY", KEYS[3], 1)
    if type(processed) ~= "number" then
        processed = 1
        redis.call("SET", KEYS[3], processed)
    end
    redis.pcall("INCRBY", KEYS[2], 1)
end
if index > 0 then return {processed, index, payload} end
return {processed, paused and -1 or 0}
