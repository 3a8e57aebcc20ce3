-- keep_attempt: keeps how often a job was tried that waits for its next attempt.
--
-- KEYS[1]  (HASH)  Keys.attempts(); of another type it is left alone, and the payload's own number counts
-- ARGV[1]  a token of its own
-- ARGV[2]  "<attempts> <first> <due> <payload>"
-- ARGV[3]  seconds until the key ends
-- returns  1 when it is kept, else 0
local kind = redis.call("TYPE", KEYS[1]).ok
if kind ~= "none" and kind ~= "hash" then return 0 end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("EXPIRE", KEYS[1], ARGV[3])
return 1
