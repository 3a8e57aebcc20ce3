-- note_heartbeat: notes that somebody gave a heartbeat, and since when there was no gap between them.
--
-- KEYS[1]  HASH  Keys.beats, for a day
-- ARGV[1]  the server's time, epoch seconds
-- ARGV[2]  the seconds without any heartbeat that are a gap: the server, or everybody, was away
-- returns  since when there was no gap, epoch seconds; 0 when none was ever noted
-- The first write frees memory: a script that has begun to write may go on where the server is full.
local now, noted = tonumber(ARGV[1]), redis.call("HMGET", KEYS[1], "last", "since")
local last, since = tonumber(noted[1] or ""), tonumber(noted[2] or "") or 0
-- A clock that goes back is a gap as well.
if last and (now - last > tonumber(ARGV[2]) or last - now > 5) then since = now end
redis.call("HDEL", KEYS[1], "last", "since")
redis.call("HSET", KEYS[1], "last", now, "since", since)
redis.call("PEXPIRE", KEYS[1], 86400000)
return since
