;;; homespun.el --- Code completion spun from your company's own code -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: Apache-2.0
;; Version: 0.1.0
;; Package-Requires: ((emacs "29.1"))
;; Keywords: convenience, tools

;;; Commentary:

;; With lsp-mode 10 suggestions are ghost text, beside whatever other language servers there are:
;;
;;     (require 'homespun)
;;     (homespun-lsp-mode-setup)
;;     (add-hook 'prog-mode-hook #'lsp-deferred)
;;
;; Eglot shows no ghost text and runs one server in a buffer: suggestions are then an entry of completion-at-point.
;;
;;     (add-hook 'conf-mode-hook #'homespun-eglot-ensure)

;;; Code:

(defgroup homespun nil
  "Code completion spun from your company's own code."
  :group 'tools)

(defcustom homespun-command '("homespun" "lsp")
  "The command of the language server."
  :type '(repeat string))

(defcustom homespun-settings nil
  "Options of the language server, as a property list: (:serverUrl \"https://homespun.example.com\").
All of them are in lsp/editors/README.md of Homespun."
  :type '(plist :key-type symbol :value-type sexp))

(defcustom homespun-delay 0.1
  "Seconds without a key before ghost text is asked for.
The default of lsp-mode itself is 2."
  :type 'number)

(defvar homespun-status nil
  "What is wrong with the server, as it said last; nil if nothing is.")

(defvar homespun-mode-line '(:eval (and homespun-status (format " Homespun: %s" homespun-status)))
  "For `mode-line-misc-info' or a mode line of your own.")
(put 'homespun-mode-line 'risky-local-variable t)

(defun homespun--status-changed (_workspace params)
  "Keep what PARAMS of `didChangeStatus' say."
  (let ((kind (homespun--get params "kind")) (message (homespun--get params "message")))
    (setq homespun-status (and (stringp message) (not (equal kind "Normal")) message))
    (force-mode-line-update t)))

(defun homespun--get (object name)
  "The member NAME of OBJECT, which came as JSON: a hash table or a property list."
  (if (hash-table-p object)
      (gethash name object)
    (plist-get object (intern (concat ":" name)))))

;;;; lsp-mode

(declare-function lsp-register-client "lsp-mode")
(declare-function make-lsp-client "lsp-mode")
(declare-function lsp-stdio-connection "lsp-mode")
(declare-function lsp-request "lsp-mode")
(defvar lsp-inline-completion-enable)
(defvar lsp-inline-completion-idle-delay)

;;;###autoload
(defun homespun-lsp-mode-setup ()
  "Let lsp-mode start Homespun in every buffer it is used in, beside other servers."
  (with-eval-after-load 'lsp-mode
    (lsp-register-client
     (make-lsp-client
      :new-connection (lsp-stdio-connection (lambda () homespun-command))
      :activation-fn (lambda (&rest _) t)
      :add-on? t
      :priority -1
      :server-id 'homespun
      :initialization-options (lambda () (plist-put (copy-sequence homespun-settings) :sendStatus "on"))
      :notification-handlers (let ((handlers (make-hash-table :test #'equal)))
                               (puthash "didChangeStatus" #'homespun--status-changed handlers)
                               handlers))))
  (with-eval-after-load 'lsp-inline-completion
    (setq lsp-inline-completion-enable t
          lsp-inline-completion-idle-delay homespun-delay)))

(defun homespun-sign-in ()
  "Sign in: shows a code, and opens the page where it is to be entered."
  (interactive)
  (let* ((answer (homespun--run "homespun.signIn"))
         (code (and answer (homespun--get answer "userCode")))
         (page (and answer (homespun--get answer "verificationUri"))))
    (if (not (and (stringp code) (stringp page) (string-match-p "\\`https?://" page)))
        (message "Homespun: %s" (or (homespun--get answer "message") (homespun--get answer "status")))
      (kill-new code)
      (browse-url page)
      (message "Homespun: enter the code %s (copied) at %s" code page))))

(defun homespun-sign-out ()
  "Sign out."
  (interactive)
  (homespun--run "homespun.signOut"))

(defun homespun--run (command)
  "Run COMMAND of the server, in a buffer of lsp-mode's."
  (lsp-request "workspace/executeCommand" (list :command command :arguments [])))

;;;; Eglot

(declare-function eglot-ensure "eglot")
(defvar eglot-server-programs)

;;;###autoload
(defun homespun-eglot-ensure ()
  "Let Eglot run Homespun in this buffer, in place of another server."
  (interactive)
  (require 'eglot)
  (setq-local eglot-server-programs
              (list (cons major-mode (append homespun-command (list :initializationOptions homespun-settings)))))
  (eglot-ensure))

(provide 'homespun)
;;; homespun.el ends here
