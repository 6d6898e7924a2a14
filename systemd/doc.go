// Package systemd holds no program: the unit, the generator and the other files that join twill to a distribution lie
// here, and tests that try them with systemd's own tools.
package systemd
