package daemon

import (
	"twill/internal/api"
	"twill/subnet"
)

// problems are what keeps this host from being as it should be, the worst first.
func (d *daemon) problems(v subnet.View) []api.Problem {
	problems := []api.Problem{} // not null in JSON
	if t := d.troubles.underlay.now(); t != "" {
		problems = append(problems, api.Problem{
			Code:    api.ProblemUnderlay,
			Problem: "cannot use the underlay: " + t,
			Remedy:  "give this host its address and interface back, or name others with --iface; twill takes them up by itself",
		})
	}
	if t := d.troubles.device.now(); t != "" {
		problems = append(problems, api.Problem{
			Code:    api.ProblemDevice,
			Problem: "device or route is not as it should be: " + t,
			Remedy:  "take away what is in the way, mostly another program's route or address; twill tries on by itself",
		})
	}
	if t := d.troubles.subnetFile.now(); t != "" {
		problems = append(problems, api.Problem{
			Code:    api.ProblemSubnetFile,
			Problem: "the subnet file is out of date: " + t,
			Remedy:  "make it writable for the daemon; twill tries on by itself",
		})
	}
	if v.ConfigProblem != "" {
		problems = append(problems, api.Problem{
			Code:    api.ProblemConfig,
			Problem: v.ConfigProblem,
			Remedy:  "restart twill if the config is as you want it (`twill config get`), else put it right with `twill config set`",
		})
	}
	return append(problems, etcdProblems(v.Etcd)...)
}

func etcdProblems(e subnet.EtcdState) []api.Problem {
	p := api.Problem{Problem: etcdTrouble(e) + ": " + e.Err}
	switch {
	case e.Serves:
		return nil
	case e.Refuses:
		p.Code, p.Remedy = api.ProblemEtcdRefuses, "put right what etcd says; until then forwarding goes on with the last table"
	default:
		p.Code, p.Remedy = api.ProblemEtcdAway, "look whether etcd runs and whether this host reaches it; until then forwarding goes on with the last table"
	}
	return []api.Problem{p}
}

// etcdTrouble says in a word what is wrong with etcd, or "".
func etcdTrouble(e subnet.EtcdState) string {
	switch {
	case e.Serves:
		return ""
	case e.Refuses:
		return "etcd refuses what we ask"
	}
	return "etcd is away"
}
