// Package clidoc turns the command line itself into its manual pages, its reference and its shell completions, so that they
// cannot say anything else: cli.App → Page (every command with its flags, as text) → Man, Markdown, Bash, Zsh, Fish.
package clidoc
