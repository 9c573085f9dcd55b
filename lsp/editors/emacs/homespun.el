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
(declare-function lsp-find-workspace "lsp-mode")
(defvar lsp--cur-workspace)
(defvar lsp-inline-completion-enable)
(defvar lsp-inline-completion-idle-delay)
(defvar lsp-inline-completion-active-map)

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
          lsp-inline-completion-idle-delay homespun-delay)
    (define-key lsp-inline-completion-active-map (kbd "C-<right>") #'homespun-accept-word)
    (define-key lsp-inline-completion-active-map (kbd "C-<down>") #'homespun-accept-line)))

;;;; A part of a suggestion

(declare-function lsp-inline-completion-accept "lsp-inline-completion")
(declare-function lsp-inline-completion-show-overlay "lsp-inline-completion")
(declare-function lsp-inline-completion--clear-overlay "lsp-inline-completion")
(declare-function lsp-make-inline-completion-item "lsp-protocol")
(declare-function lsp:inline-completion-item-insert-text "lsp-protocol")
(declare-function lsp:inline-completion-item-range? "lsp-protocol")
(declare-function lsp:inline-completion-item-command? "lsp-protocol")
(declare-function lsp--range-to-region "lsp-mode")
(declare-function lsp--point-to-position "lsp-mode")
(declare-function lsp-make-range "lsp-protocol")
(declare-function lsp-make-position "lsp-protocol")
(defvar lsp-inline-completion--overlay)
(defvar lsp-inline-completion--items)
(defvar lsp-inline-completion--current)
(defvar lsp-inline-completion--start-point)

(defconst homespun--word "\\`[[:space:]\n]*\\(?:[[:alnum:]_]+\\|[^[:alnum:]_[:space:]\n]*\\)"
  "Blanks and the word after them, or blanks and one run of other characters.")
(defconst homespun--line "\\`[^\n]*\n?"
  "Up to and with the next line end.")

(defun homespun-accept-word ()
  "Accept a word of the suggestion; the rest stays."
  (interactive)
  (homespun--accept-part homespun--word))

(defun homespun-accept-line ()
  "Accept a line of the suggestion; the rest stays."
  (interactive)
  (homespun--accept-part homespun--line))

(put 'homespun-accept-word 'lsp-inline-completion-keep t)
(put 'homespun-accept-line 'lsp-inline-completion-keep t)

(defun homespun--accept-part (pattern)
  "Insert what PATTERN matches of the ghost text, or of Eglot's suggestion."
  (cond ((bound-and-true-p lsp-inline-completion--overlay) (homespun--accept-of-ghost pattern))
        ((and (fboundp 'eglot-current-server) (eglot-current-server)) (homespun--insert-of-menu pattern))
        (t (user-error "Homespun: nothing is suggested here"))))

(defun homespun--head (pattern text)
  "What PATTERN matches at the start of TEXT."
  (string-match pattern text)
  (match-string 0 text))

(defun homespun--accept-of-ghost (pattern)
  "Insert what PATTERN matches of the ghost text, and show the rest of it.
Nothing is asked for again."
  (let* ((item (nth lsp-inline-completion--current lsp-inline-completion--items))
         (text (lsp:inline-completion-item-insert-text item))
         (region (homespun--region item))
         (part (homespun--head pattern text)))
    (if (or (string= part text) (/= (car region) lsp-inline-completion--start-point))
        (lsp-inline-completion-accept)
      (lsp-inline-completion--clear-overlay)
      (goto-char (car region))
      (insert part)
      (setq lsp-inline-completion--start-point (point)
            lsp-inline-completion--current 0
            lsp-inline-completion--items
            (list (lsp-make-inline-completion-item
                   :insert-text (substring text (length part))
                   :range? (lsp-make-range :start (homespun--position (point))
                                           :end (homespun--position (+ (cdr region) (length part))))
                   :command? (lsp:inline-completion-item-command? item))))
      (lsp-inline-completion-show-overlay))))

(defun homespun--region (item)
  "The text that ITEM takes the place of, as (START . END)."
  (let ((range (lsp:inline-completion-item-range? item)))
    (if range (lsp--range-to-region range) (cons (point) (point)))))

(defun homespun--position (point)
  "POINT as lsp-mode keeps what came from a server."
  (let ((position (lsp--point-to-position point)))
    (lsp-make-position :line (plist-get position :line) :character (plist-get position :character))))

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
  "Run COMMAND of our server: lsp-mode's others don't know it."
  (let ((lsp--cur-workspace (or (and (fboundp 'lsp-find-workspace) (lsp-find-workspace 'homespun))
                                (user-error "Homespun: lsp-mode doesn't run it here"))))
    (lsp-request "workspace/executeCommand" (list :command command :arguments []))))

;;;; Eglot

(declare-function eglot-ensure "eglot")
(declare-function eglot-current-server "eglot")
(declare-function eglot--signal-textDocument/didChange "eglot")
(declare-function eglot--TextDocumentPositionParams "eglot")
(declare-function eglot--lsp-position-to-point "eglot")
(declare-function jsonrpc-request "jsonrpc")
(defvar eglot-server-programs)

;;;###autoload
(defun homespun-eglot-ensure ()
  "Let Eglot run Homespun in this buffer, in place of another server."
  (interactive)
  (require 'eglot)
  (setq-local eglot-server-programs
              (list (cons major-mode (append homespun-command (list :initializationOptions homespun-settings)))))
  (eglot-ensure))

(defun homespun--insert-of-menu (pattern)
  "Insert what PATTERN matches of the menu's first entry, after what is typed."
  (eglot--signal-textDocument/didChange)
  (let* ((list (jsonrpc-request (eglot-current-server) :textDocument/completion (eglot--TextDocumentPositionParams)))
         (items (plist-get list :items))
         (edit (and (length> items 0) (plist-get (elt items 0) :textEdit)))
         (start (and edit (eglot--lsp-position-to-point (plist-get (plist-get edit :range) :start))))
         (typed (if start (buffer-substring-no-properties start (point)) ""))
         (text (and edit (plist-get edit :newText))))
    (unless (and text (string-prefix-p typed text) (not (string= typed text)))
      (user-error "Homespun: nothing is suggested here"))
    (insert (homespun--head pattern (substring text (length typed))))))

(provide 'homespun)
;;; homespun.el ends here
