-- The language server, and what differs between Neovim's versions in talking to it.
local M = {
  config = {},
  status = { kind = 'Normal', message = '', busy = false },
}

local newer = vim.fn.has('nvim-0.11') == 1

-- The server of a buffer (the current one unless given), once it is ready.
function M.of(buf)
  local clients = vim.lsp.get_clients({ bufnr = buf or 0, name = 'homespun' })
  return clients[1] and clients[1].initialized and clients[1] or nil
end

function M.request(client, method, params, handler, buf)
  if newer then
    return client:request(method, params, handler, buf)
  end
  return client.request(method, params, handler, buf)
end

function M.cancel(client, id)
  if newer then
    client:cancel_request(id)
  else
    client.cancel_request(id)
  end
end

-- One of the server's commands; `done(result, problem)` is called with what came of it.
function M.run(command, arguments, done)
  local client = M.of()
  if not client then
    return done and done(nil, 'the language server is not running in this buffer')
  end
  local params = { command = command, arguments = arguments }
  M.request(client, 'workspace/executeCommand', params, function(problem, result)
    if done then
      done(result, problem and problem.message)
    end
  end, vim.api.nvim_get_current_buf())
end

-- Says which file is in front: another folder may have another server, whose state is then the one to show. And where
-- somebody will write who begins to in the line of the cursor, in bytes: mostly at its end.
function M.focus(buf)
  local client = M.of(buf)
  if client and buf == vim.api.nvim_get_current_buf() then
    local params = {
      textDocument = vim.lsp.util.make_text_document_params(buf),
      position = { line = vim.api.nvim_win_get_cursor(0)[1] - 1, character = #vim.api.nvim_get_current_line() },
    }
    if newer then
      client:notify('textDocument/didFocus', params)
    else
      client.notify('textDocument/didFocus', params)
    end
  end
end

function M.log_path()
  return vim.lsp.log and vim.lsp.log.get_filename and vim.lsp.log.get_filename() or vim.lsp.get_log_path()
end

local function status_changed(_, status)
  if type(status) == 'table' and status.kind then
    M.status = { kind = status.kind, message = status.message or '', busy = status.busy == true }
    vim.cmd.redrawstatus()
  end
end

-- Whether suggestions are wanted in a buffer: those of files, and of nothing else.
local function is_wanted(buf)
  local types = M.config.filetypes
  return vim.bo[buf].buftype == '' and (not types or vim.tbl_contains(types, vim.bo[buf].filetype))
end

function M.attach(buf)
  if not is_wanted(buf) then
    return
  end
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.general.positionEncodings = { 'utf-8' } -- columns in bytes, as Neovim's own
  capabilities.textDocument.inlineCompletion = { dynamicRegistration = false } -- 0.10 doesn't know of it, we do
  local settings = M.config.settings or vim.empty_dict()
  vim.lsp.start({
    name = 'homespun',
    cmd = M.config.cmd or { 'homespun', 'lsp' },
    root_dir = vim.fs.root(buf, '.git') or vim.fn.getcwd(),
    init_options = settings,
    settings = { homespun = settings },
    capabilities = capabilities,
    handlers = { didChangeStatus = status_changed },
    on_attach = function(_, attached)
      M.focus(attached)
    end,
    on_init = function(client)
      M.request(client, 'homespun/status', vim.empty_dict(), function(_, status)
        status_changed(nil, status)
      end)
    end,
  }, { bufnr = buf })
end

local function stop(client, force)
  if newer then
    client:stop(force)
  else
    client.stop(force)
  end
end

local function attach_all()
  for _, buf in ipairs(vim.api.nvim_list_bufs()) do
    if vim.api.nvim_buf_is_loaded(buf) then
      M.attach(buf)
    end
  end
end

-- Calls `done` once the clients are gone, which are not asked nicely for ever.
local function when_gone(clients, patience_ms, done)
  local left = vim.tbl_filter(function(client)
    return vim.lsp.get_client_by_id(client.id) ~= nil
  end, clients)
  if #left == 0 then
    return done()
  end
  if patience_ms == 0 then
    for _, client in ipairs(left) do
      stop(client, true)
    end
  end
  vim.defer_fn(function()
    when_gone(left, patience_ms - 50, done)
  end, 50)
end

function M.restart()
  local clients = vim.lsp.get_clients({ name = 'homespun' })
  for _, client in ipairs(clients) do
    stop(client)
  end
  when_gone(clients, 5000, attach_all) -- before, a new one of the same name would be the old one
end

return M
