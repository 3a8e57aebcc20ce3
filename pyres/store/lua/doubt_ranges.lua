-- doubt_ranges: marks the ranges of moments that begin too late to be right: they were fired by a clock that was ahead.
--
-- KEYS[1]  HASH  Keys.schedule_ranges
-- ARGV[1]  the latest possible beginning, epoch seconds
-- ARGV[2]  the name of an entry
-- returns  how many were marked, each by a question mark after it
local ranges, marked = {}, 0
for first, last, mark in string.gmatch(redis.call("HGET", KEYS[1], ARGV[2]) or "", "(%d+)%.%.(%d+)(%??)") do
    if mark == "" and tonumber(first) > tonumber(ARGV[1]) then
        mark, marked = "?", marked + 1
    end
    table.insert(ranges, first .. ".." .. last .. mark)
end
if marked > 0 then redis.call("HSET", KEYS[1], ARGV[2], table.concat(ranges, " ")) end
return marked
