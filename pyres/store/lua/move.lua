-- move: moves the oldest payloads of a queue to the end of another, within the limits but at least one.
--
-- KEYS[1]  LIST  Keys.queue() to move from
-- KEYS[2]  LIST  Keys.queue() to move to
-- KEYS[3]  SET   Keys.queues
-- ARGV[1]  the name of the queue to move to
-- ARGV[2]  the limit of payloads
-- ARGV[3]  the limit of their bytes; a larger payload is moved alone
-- returns  how many were moved
local moved, bytes = 0, tonumber(ARGV[3])
redis.call("SADD", KEYS[3], ARGV[1])
local payload = redis.call("LINDEX", KEYS[1], 0)
while payload and moved < tonumber(ARGV[2]) and (moved == 0 or #payload <= bytes) do
    redis.call("LMOVE", KEYS[1], KEYS[2], "LEFT", "RIGHT")
    moved, bytes = moved + 1, bytes - #payload
    payload = redis.call("LINDEX", KEYS[1], 0)
end
return moved
