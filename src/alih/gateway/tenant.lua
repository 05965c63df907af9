-- Names the tenant of a request in a header; the route table decides by that header alone.
-- TEMPLATE (segments, false where the tenant's id stands), SHARED (prefixes), IDS ("integer" or "text") and
-- HEADER stand above this text. What a back end could read as another tenant than we do is refused, not guessed;
-- the path itself goes on unchanged.

local REFUSED, FRONT, SHARED_NAME = "@refused", "-", "@shared"

local function segments(path)
  local found = {}
  for segment in string.gmatch(string.sub(path, 2), "([^/]*)/?") do found[#found + 1] = segment end
  if found[#found] == "" then found[#found] = nil end -- the empty match at the end of the text
  return found
end

local function starts_with(found, prefix)
  for i = 1, #prefix do
    if prefix[i] and found[i] ~= prefix[i] or not found[i] then return false end
  end
  return true
end

local function is_id(text)
  if IDS == "integer" then
    return #text <= 19 and (text == "0" or string.find(text, "^[1-9][0-9]*$") ~= nil)
  end
  return #text <= 128 and string.find(text, "^[A-Za-z0-9][A-Za-z0-9._~-]*$") ~= nil
end

local function decide(found, shared, template)
  for i = 1, #shared do
    if starts_with(found, shared[i]) then return SHARED_NAME end
  end
  if not starts_with(found, template) then return FRONT end
  for i = 1, #template do
    if not template[i] then
      if found[i] == "" then return FRONT end
      return is_id(found[i]) and found[i] or REFUSED
    end
  end
end

local function lowered(prefix)
  local found = {}
  for i = 1, #prefix do found[i] = prefix[i] and string.lower(prefix[i]) end
  return found
end

local LOWER_TEMPLATE, LOWER_SHARED = lowered(TEMPLATE), {}
for i = 1, #SHARED do LOWER_SHARED[i] = lowered(SHARED[i]) end

-- The path as the most generous back end would read it.
local function flattened(path)
  local flat = {}
  path = string.gsub(string.lower(path), "\\", "/")
  for segment in string.gmatch(path, "[^/]+") do
    segment = string.gsub(segment, ";.*$", "")
    if segment == ".." then
      flat[#flat] = nil
    elseif segment ~= "." and segment ~= "" then
      flat[#flat + 1] = segment
    end
  end
  return flat
end

local function unescaped(path)
  return (string.gsub(path, "%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function tenant_of(path)
  local plain = string.match(path, "^[^?]*")
  local decision = decide(segments(plain), SHARED, TEMPLATE)
  if decision == REFUSED or not string.find(plain, "[%%\\;A-Z]") and not string.find(plain, "//", 1, true)
      and not string.find(plain, "/.", 1, true) then
    return decision
  end
  for _ = 1, 3 do
    if decide(flattened(plain), LOWER_SHARED, LOWER_TEMPLATE) ~= string.lower(decision) then return REFUSED end
    local further = unescaped(plain)
    if further == plain then return decision end
    plain = further
  end
  return REFUSED -- escaped three times over: nobody writes that in earnest
end

function envoy_on_request(handle)
  local headers = handle:headers()
  headers:replace(HEADER, tenant_of(headers:get(":path")))
  handle:clearRouteCache()
end
