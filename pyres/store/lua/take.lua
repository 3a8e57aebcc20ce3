-- take: records the job just finished and moves the oldest payload of the first queue that has one into the taker's hand.
--
-- KEYS[1]     STRING  the taker's hand: Keys.worker()
-- KEYS[2]     STRING  Keys.stat("processed")
-- KEYS[3]     STRING  Keys.stat("processed:<id>")
-- KEYS[4]     STRING  Keys.started()
-- KEYS[5]     STRING  Keys.pause
-- KEYS[6..n]  LIST    Keys.queue(), in the order to look
-- ARGV[1]     "0" when the hand is empty, "1" when the job in it is finished, "2" when it may be overwritten
-- ARGV[2]     the time now, as the hand's run_at
-- ARGV[3]     what stands in KEYS[3] as the taker knows it; if nothing, in KEYS[4]; if nothing, ""
-- ARGV[4..]   the name of each queue as JSON, in the order of KEYS[6..n]
-- returns     {processed by this taker, index from 1 of the queue, payload};
--             {processed, 0} when all are empty, {processed, -1} when the workers are paused;
--             {processed, -2, the hand or nil} and nothing done when ARGV[1] or ARGV[3] is not so: this call was
--             done already, or comes so late that its taker has sent another since, or is gone
-- What can fail (a key of another type) comes before the first write: no half of this is ever done.
local known = redis.call("GET", KEYS[3])
local processed = tonumber(known or 0)
known = known or redis.call("GET", KEYS[4]) or ""
if known ~= ARGV[3] or (ARGV[1] == "0" and redis.call("EXISTS", KEYS[1]) == 1) then
    return {processed, -2, redis.call("GET", KEYS[1])}
end
local paused = redis.call("GET", KEYS[5])
paused = paused and string.match(string.lower(paused), "^%s*true%s*$")
local index, payload = 0, nil
for i = 6, paused and 5 or #KEYS do
    -- Looked at before it is popped: a server out of memory refuses the SET while the payload still
    -- stands in its queue.
    payload = redis.call("LINDEX", KEYS[i], 0)
    if payload then
        index = i - 5
        break
    end
end
if ARGV[1] == "1" then
    processed = redis.call("INCRBY", KEYS[3], 1)
    redis.call("INCRBY", KEYS[2], 1)
end
if payload then
    redis.call("SET", KEYS[1], '{"queue":' .. ARGV[index + 3] .. ',"run_at":"' .. ARGV[2] .. '","payload":' .. payload .. '}')
    redis.call("LPOP", KEYS[index + 5])
    return {processed, index, payload}
end
if ARGV[1] == "1" then redis.call("DEL", KEYS[1]) end
return {processed, paused and -1 or 0}
