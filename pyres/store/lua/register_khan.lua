-- register_khan: announces a manager, and forgets the name it had before.
--
-- KEYS[1]  (SET)  Keys.khans
-- ARGV[1]  its id
-- ARGV[2]  the id it had before, or ""
-- returns  KEYS[1] where that is of another type, and is left as it is
-- The first write frees memory: a script that has begun to write may go on where the server is full.
local found = redis.call("TYPE", KEYS[1]).ok
if found ~= "none" and found ~= "set" then return {KEYS[1]} end
redis.call("SREM", KEYS[1], ARGV[1], ARGV[2])
redis.call("SADD", KEYS[1], ARGV[1])
return {}
