-- page_elements: finds which elements of one page of a list are to be removed, and to which lists they are moved.
--
-- wanted_elements(before, lowest, count, first)  the targets are the lists KEYS[before + lowest] to
--     KEYS[before + count]; from ARGV[first] on each element has three arguments: its SHA-1 in hex, the number of its
--     target (lowest - 1: it is only removed), the payload. Returns a reply: 0 removed, then each target that is not a
--     list, with its type; and by SHA-1 the indexes of the arguments of the elements that can be removed.
local function wanted_elements(before, lowest, count, first)
    local reply, usable, wanted = {0}, {[lowest - 1] = true}, {}
    for target = lowest, count do
        local kind = redis.call("TYPE", KEYS[before + target]).ok
        usable[target] = kind == "none" or kind == "list"
        if not usable[target] then
            table.insert(reply, target)
            table.insert(reply, kind)
        end
    end
    for at = first, #ARGV, 3 do
        if usable[tonumber(ARGV[at + 1])] then
            wanted[ARGV[at]] = wanted[ARGV[at]] or {}
            table.insert(wanted[ARGV[at]], at)
        end
    end
    return reply, wanted
end
