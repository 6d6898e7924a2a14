// Package systemtest runs twill as its users do: machines with a real systemd, Debian's etcd and Docker, and the DEB.
//
// [Check] says whether machines can run here. [Prepare] builds, on the machine itself, what is needed: the packages, and a tree of
// Debian with systemd, etcd and Docker, which is kept for the next time. [Enter] then moves the test into namespaces that vanish
// with it, however it ends. In there [NewWorld] makes a switch, and [Machine.Boot] starts machines on it: systemd-nspawn containers
// on a copy of the tree that lives in memory. [Machine.Run] runs commands on them.
//
// The test itself, which `make system-test` runs, is system_test.go; its steps are in the other test files.
package systemtest
