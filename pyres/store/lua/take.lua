-- take: records the job just finished and moves the oldest payload of the first queue that has one into the taker's hand.
--
-- KEYS[1]     STRING  the taker's hand: Keys.worker()
-- KEYS[2]     STRING  Keys.stat("processed")
-- KEYS[3]     STRING  Keys.stat("processed:<id>")
-- KEYS[4]     STRING  Keys.pause
-- KEYS[5..n]  LIST    Keys.queue(), in the order to look
-- ARGV[1]     "1" when the job in hand is finished, else "0"
-- ARGV[2]     the time now, as the hand's run_at
-- ARGV[3..]   the name of each queue as JSON, in the order of KEYS[5..n]
-- returns     {processed by this taker, index from 1 of the queue, payload};
--             {processed, 0} when all are empty, {processed, -1} when the workers are paused
-- What can fail (a key of another type) comes before the first write: no half of this is ever done.
local paused = redis.call("GET", KEYS[4])
paused = paused and string.match(string.lower(paused), "^%s*true%s*$")
local index, payload = 0, nil
for i = 5, paused and 4 or #KEYS do
    -- Looked at before it is popped: a read makes CLIENT TRACKING watch the empty queue, and a
    -- server out of memory refuses the SET while the payload still stands in its queue.
    payload = redis.call("LINDEX", KEYS[i], 0)
    if payload then
        index = i - 4
        break
    end
end
local processed
if ARGV[1] == "1" then
    processed = redis.call("INCRBY", KEYS[3], 1)
    redis.call("INCRBY", KEYS[2], 1)
else
    processed = tonumber(redis.call("GET", KEYS[3]) or 0)
end
if payload then
    redis.call("SET", KEYS[1], '{"queue":' .. ARGV[index + 2] .. ',"run_at":"' .. ARGV[2] .. '","payload":' .. payload .. '}')
    redis.call("LPOP", KEYS[index + 4])
    return {processed, index, payload}
end
if ARGV[1] == "1" then redis.call("DEL", KEYS[1]) end
return {processed, paused and -1 or 0}
