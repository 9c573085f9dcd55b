vim.api.nvim_create_user_command('Homespun', function(given)
  local run = require('homespun.commands')[given.args == '' and 'status' or given.args]
  if run then
    run()
  else
    vim.notify(('Homespun: there is no :Homespun %s; see :help homespun'):format(given.args), vim.log.levels.ERROR)
  end
end, {
  nargs = '?',
  desc = 'Homespun: status, enable, disable, toggle, signin, signout, restart, log',
  complete = function(start)
    local names = vim.tbl_keys(require('homespun.commands'))
    table.sort(names)
    return vim.tbl_filter(function(name)
      return vim.startswith(name, start)
    end, names)
  end,
})
