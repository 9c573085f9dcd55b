-- Homespun for Neovim 0.12 and newer: starts the language server and shows its suggestions as ghost text.
local M = {}

-- Neovim accepts a suggestion as it was when it arrived. Letters typed since then are hidden on screen but would stand
-- twice in the text (neovim#36529), so take them off, or drop a suggestion that no longer fits.
function M.rebase(item)
  if type(item.insert_text) ~= 'string' or not item.range then
    return item
  end
  local start_row, start_col, _, end_col = item.range:to_extmark() -- one line, always
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  row = row - 1
  if row ~= start_row or col < start_col then
    return nil
  end
  local typed = vim.api.nvim_buf_get_text(0, row, start_col, row, col, {})[1]
  if not vim.startswith(item.insert_text, typed) then
    return nil
  end
  vim.api.nvim_buf_set_text(0, row, col, row, end_col + #typed, {}) -- what the suggestion replaces
  item.insert_text = item.insert_text:sub(#typed + 1)
  item.range = nil -- insert at the cursor
  return item
end

-- Accept the suggestion on screen. False if there is none.
function M.accept()
  return vim.lsp.inline_completion.get({ on_accept = M.rebase })
end

--- opts.cmd: command of the server, { 'homespun', 'lsp' } unless given
--- opts.settings: { serverUrl = ..., token = ... }, see ../README.md
--- opts.filetypes: only these; all unless given
--- opts.accept_key: '<Tab>' unless given, false for none; does what it did before when there is no suggestion
function M.setup(opts)
  opts = opts or {}
  vim.lsp.config('homespun', {
    cmd = opts.cmd or { 'homespun', 'lsp' },
    filetypes = opts.filetypes,
    root_markers = { '.git' },
    init_options = opts.settings,
    settings = { homespun = opts.settings or vim.empty_dict() },
  })
  vim.lsp.enable('homespun')
  vim.lsp.inline_completion.enable(true)
  local key = opts.accept_key == nil and '<Tab>' or opts.accept_key
  if key then
    vim.keymap.set('i', key, function()
      return M.accept() and '' or key
    end, { expr = true, desc = 'Accept the Homespun suggestion' })
  end
end

return M
