-- fetch: records the job just finished and moves the oldest payload of the first queue that has one into the taker's hand.
--
-- KEYS[1]     (STRING)  the taker's hand: Keys.worker()
-- KEYS[2]     (STRING)  Keys.stat("processed")
-- KEYS[3]     (STRING)  Keys.stat("processed:<id>")
-- KEYS[4]     (STRING)  Keys.started()
-- KEYS[5]     (STRING)  Keys.pause
-- KEYS[6]     (SET)     Keys.workers
-- KEYS[7..n]  (LIST)    Keys.queue(), in the order to look
-- ARGV[1]     "0" when the hand is empty, "1" when the job in it is finished, "2" when it may be overwritten
-- ARGV[2]     the time now, as the hand's run_at
-- ARGV[3]     what stands in KEYS[3] as the taker knows it; if nothing, in KEYS[4]; if nothing, ""
-- ARGV[4]     the taker's id
-- ARGV[5..]   the name of each queue as JSON, in the order of KEYS[7..n]
-- returns     {processed by this taker, index from 1 of the queue, payload};
--             {processed, 0} when all are empty, {processed, -1} when the workers are paused;
--             {processed, -2, the hand or nil} and nothing done when ARGV[1] or ARGV[3] is not so: this call was
--             done already, or comes so late that its taker has sent another since, or is gone;
--             {processed, -3} and nothing done when there are queues, and the taker is not in KEYS[6]
-- A key of another type, and a counter that is no integer, count as missing: neither may cost a job or stop the
-- other queues. What can fail comes before the first write, which frees memory: a full server can be drained.
if #KEYS > 6 and redis.pcall("SISMEMBER", KEYS[6], ARGV[4]) == 0 then return {0, -3} end
local known = redis.pcall("GET", KEYS[3])
known = type(known) == "string" and known
local processed = tonumber(known or 0) or 0
if not known then
    local since = redis.pcall("GET", KEYS[4])
    known = type(since) == "string" and since or ""
end
if known ~= ARGV[3] then
    local hand = redis.pcall("GET", KEYS[1])
    return {processed, -2, type(hand) == "string" and hand}
end
if ARGV[1] == "0" then
    local hand = redis.pcall("GET", KEYS[1])
    if type(hand) == "string" then return {processed, -2, hand} end
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
    -- A server that refuses writes says so here, before anything was done.
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
