-- note_heartbeat: notes the time of a heartbeat of any worker, and since when there was no gap between heartbeats.
--
-- KEYS[1]  HASH  Keys.beats, for a day
-- ARGV[1]  the server's time, epoch seconds
-- ARGV[2]  the seconds without a heartbeat that count as a gap: the server or all workers were down
-- returns  since when there was no gap, epoch seconds; 0 when there was none since the first heartbeat
-- The first write frees memory: on a full server a script that has written once may write on.
local now, noted = tonumber(ARGV[1]), redis.call("HMGET", KEYS[1], "last", "since")
local last, since = tonumber(noted[1] or ""), tonumber(noted[2] or "") or 0
-- A clock that was set back is also a gap.
if last and (now - last > tonumber(ARGV[2]) or last - now > 5) then since = now end
redis.call("HDEL", KEYS[1], "last", "since")
redis.call("HSET", KEYS[1], "last", now, "since", since)
redis.call("PEXPIRE", KEYS[1], 86400000)
return since
