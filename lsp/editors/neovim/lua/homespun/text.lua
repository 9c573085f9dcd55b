-- Parts of a suggestion. Pure.
local M = {}

-- What of the suggestion is still to come after `typed`; nil if it is about something else by now.
function M.rest(suggestion, typed)
  return vim.startswith(suggestion, typed) and suggestion:sub(#typed + 1) or nil
end

-- Blanks and the word after them, or blanks and one run of other characters: as Ctrl+Right goes.
function M.word(text)
  local blank = text:match('^%s*')
  local after = text:sub(#blank + 1)
  -- Bytes above 127 are letters of other scripts; cutting between them would cut a character.
  return blank .. (after:match('^[%w_\128-\255]+') or after:match('^[^%w_%s\128-\255]+') or '')
end

-- Up to and with the next line end.
function M.line(text)
  return text:match('^[^\n]*\n') or text
end

function M.all(text)
  return text
end

return M
