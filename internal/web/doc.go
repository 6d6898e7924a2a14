// Package web is what the daemon tells over HTTP, to whoever reaches the address that it was given: /healthz and /readyz for
// those that watch over it, /metrics for Prometheus, and a status page on /.
//
// Everything is read-only and made anew for each request from what the Daemon says at that moment. Nothing comes from
// elsewhere: the page has no outside resource, and no answer holds a key, password or certificate, which the package never
// sees. Names that other hosts wrote into etcd are data: html/template escapes them in the page.
package web
