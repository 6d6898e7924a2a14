// Package fromflannel finds out how a host's flanneld is set up and says what twill needs to do the same:
// environment files, a command line or a running process → Settings, by flag, the command line winning as in Flannel →
// Plan: twill's settings, what differs, what cannot be had → text. It changes nothing.
package fromflannel
