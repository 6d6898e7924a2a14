// Package terminal is how commands show things to people: tables that stay aligned with colours and wide characters, numbers in
// units that can be read, and a screen that is drawn again and again.
//
// Text comes from other hosts as well; what could steer the terminal is replaced (Printable).
package terminal
