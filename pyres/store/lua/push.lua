-- push: appends payloads to queues, and adds the queues to the set of queues: all or nothing.
--
-- KEYS[1]     SET   Keys.queues
-- KEYS[2..n]  LIST  Keys.queue(), each queue once
-- ARGV[1..]   for each queue, in the order of KEYS[2..n]: its name, how many payloads, the payloads
-- returns     1
local at = 1
for i = 2, #KEYS do
    local last = at + 1 + tonumber(ARGV[at + 1])
    redis.call("SADD", KEYS[1], ARGV[at])
    -- In parts, since unpack() has a limit.
    for first = at + 2, last, 1000 do
        redis.call("RPUSH", KEYS[i], unpack(ARGV, first, math.min(first + 999, last)))
    end
    at = last + 1
end
return 1
