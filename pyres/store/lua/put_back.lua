-- put_back: lays a payload that was taken but not begun at the head of its queue again, once.
--
-- KEYS[1]  (STRING)  the taker's hand: Keys.worker()
-- KEYS[2]  LIST      Keys.queue()
-- KEYS[3]  SET       Keys.queues
-- ARGV[1]  the payload
-- ARGV[2]  the queue's name
-- ARGV[3]  the hand as it must be for the payload to be put back, or "" when it never came into a hand
-- returns  1 when it was put back, 0 when the hand holds something else; of another type, it holds nothing
-- The first write frees memory: a script that has begun to write may go on where the server is full.
local held = redis.pcall("GET", KEYS[1])
if ARGV[3] ~= "" and type(held) ~= "table" and held ~= ARGV[3] then return 0 end
redis.call("DEL", KEYS[1])
redis.call("LPUSH", KEYS[2], ARGV[1])
redis.call("SADD", KEYS[3], ARGV[2])
return 1
