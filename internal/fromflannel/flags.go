package fromflannel

// flags are flanneld's, of v0.28 and of the versions before it that have the udp backend.
var flags = map[string]flannelFlag{
	"etcd-endpoints":            {fate: same, value: "http://127.0.0.1:4001,http://127.0.0.1:2379"},
	"etcd-prefix":               {fate: same, value: "/coreos.com/network"},
	"etcd-keyfile":              {fate: same, note: "must be readable for the user twill"},
	"etcd-certfile":             {fate: same, note: "must be readable for the user twill"},
	"etcd-cafile":               {fate: same, note: "must be readable for the user twill"},
	"etcd-username":             {fate: same},
	"etcd-password":             {fate: secret},
	"iface":                     {fate: same, kind: list},
	"iface-regex":               {fate: same, kind: list},
	"iface-can-reach":           {fate: same},
	"public-ip":                 {fate: same},
	"subnet-file":               {fate: moved, value: "/run/flannel/subnet.env", note: "twill writes /run/twill/subnet.env; whoever reads the old file has to read that one"},
	"subnet-lease-renew-margin": {fate: same, value: "60"},
	"ip-masq":                   {fate: same, kind: boolean, value: "false"},
	"iptables-resync":           {fate: same, value: "5"},
	"iptables-forward-rules":    {fate: same, kind: boolean, value: "true"},
	"healthz-ip":                {fate: same, value: "0.0.0.0"},
	"healthz-port":              {fate: same, value: "0"},

	"ip-masq-fully-random-disable": {fate: moved, kind: boolean, value: "false", note: "twill always uses MASQUERADE --random-fully where iptables has it"},
	"ip-blackhole-route":           {fate: moved, kind: boolean, value: "false", note: "twill sets no blackhole route: it answers for its own subnet's unknown addresses itself"},
	"public-ipv6":                  {fate: moved, note: "twill carries IPv4 only"},
	"remote":                       {fate: missing, note: "client and server mode, which Flannel has dropped, is not in twill"},
	"listen":                       {fate: missing, note: "client and server mode, which Flannel has dropped, is not in twill"},

	"kube-subnet-mgr":              {fate: missing, kind: boolean, value: "false", note: "leases in the Kubernetes API are not supported: twill keeps them in etcd"},
	"kube-api-url":                 {fate: quiet},
	"kube-annotation-prefix":       {fate: quiet, value: "flannel.alpha.coreos.com"},
	"kubeconfig-file":              {fate: quiet},
	"net-config-path":              {fate: quiet, value: "/etc/kube-flannel/net-conf.json"},
	"set-node-network-unavailable": {fate: quiet, kind: boolean, value: "true"},

	"v":                {fate: moved, value: "0", note: "TWILL_LOG_LEVEL=debug says more"},
	"vmodule":          {fate: quiet},
	"log_backtrace_at": {fate: quiet},
	"logtostderr":      {fate: quiet, kind: boolean},
	"alsologtostderr":  {fate: quiet, kind: boolean},
	"stderrthreshold":  {fate: quiet},
	"log_dir":          {fate: quiet},
	"version":          {fate: quiet, kind: boolean, value: "false"},
}

// flannelFlag is what is known of one flag.
type flannelFlag struct {
	kind  kind
	fate  fate
	value string // Flannel's default
	note  string // what to say about it when it is set
}

type kind int

const (
	text kind = iota
	boolean
	list // repeatable
)

// fate is what becomes of a flag.
type fate int

const (
	same    fate = iota // twill has it, with the same meaning
	secret              // the same, but its value is not shown
	moved               // twill does it otherwise: the note says how
	missing             // twill cannot do it: no way over
	quiet               // of no consequence for packets, or only together with one that is missing
)
