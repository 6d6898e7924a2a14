package subnet

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// CreateConfig writes c if the network has no config yet; created is false
// where there is one, which then wins.
func (r *Registry) CreateConfig(ctx context.Context, c Config) (created bool, err error) {
	return r.writeConfig(ctx, c, 0)
}

// ReplaceConfig writes c over the config of revision rev (Snapshot.ConfigRev;
// 0: there is none). An error says that somebody else changed it meanwhile.
func (r *Registry) ReplaceConfig(ctx context.Context, c Config, rev int64) error {
	won, err := r.writeConfig(ctx, c, rev)
	if err == nil && !won {
		err = fmt.Errorf("etcd key %s was changed by somebody else meanwhile; look at it and try again", r.configKey())
	}
	return err
}

func (r *Registry) writeConfig(ctx context.Context, c Config, rev int64) (won bool, err error) {
	key, raw := r.configKey(), string(c.JSON())
	tried := false
	err = r.retry(ctx, "write the network config", func() error {
		ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
		defer cancel()
		resp, err := r.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
			Then(clientv3.OpPut(key, raw)).
			Else(clientv3.OpGet(key)).
			Commit()
		if err != nil {
			tried = true
			return err
		}
		won = resp.Succeeded || tried && holds(resp, raw)
		return nil
	})
	return won, err
}

// holds recognises the value of an earlier try whose answer was lost.
func holds(resp *clientv3.TxnResponse, raw string) bool {
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	return len(kvs) == 1 && string(kvs[0].Value) == raw
}
