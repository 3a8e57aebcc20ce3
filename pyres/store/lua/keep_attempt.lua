-- keep_attempt: records how often a job was tried that waits for an automatic retry.
--
-- KEYS[1]  (HASH)  Keys.attempts(); if its type is wrong it is left, and the number in the payload counts
-- ARGV[1]  a token that is unique to this attempt
-- ARGV[2]  "<attempts> <first> <due> <payload>"
-- ARGV[3]  the key's TTL, seconds
-- returns  1 when it was recorded, else 0
local kind = redis.call("TYPE", KEYS[1]).ok
if kind ~= "none" and kind ~= "hash" then return 0 end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("EXPIRE", KEYS[1], ARGV[3])
return 1
