-- register_khan: announces a manager, and forgets the name it had before.
--
-- KEYS[1]  SET  Keys.khans
-- ARGV[1]  its id
-- ARGV[2]  the id it had before, or ""
-- returns  1
-- The first write frees memory: a script that has begun to write may go on where the server is full.
redis.call("SREM", KEYS[1], ARGV[1], ARGV[2])
redis.call("SADD", KEYS[1], ARGV[1])
return 1
