package subnet

import (
	"bytes"
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// CreateConfig writes c if the network has no config yet; created is false
// where there is one, which then wins.
func (r *Registry) CreateConfig(ctx context.Context, c Config) (created bool, err error) {
	return r.writeConfig(ctx, c.JSON(), 0)
}

// ReplaceConfig validates raw and writes it as it is, since Flannel reads fields
// that twill does not know, over the config of revision rev
// (Snapshot.ConfigRev; 0: there is none). An error says that raw is not valid,
// or that somebody else changed the config meanwhile.
func (r *Registry) ReplaceConfig(ctx context.Context, raw []byte, rev int64) error {
	if _, err := ParseConfig(raw); err != nil {
		return err
	}
	won, err := r.writeConfig(ctx, raw, rev)
	if err == nil && !won {
		err = fmt.Errorf("etcd key %s was changed by somebody else meanwhile; look at it and try again", r.configKey())
	}
	return err
}

func (r *Registry) writeConfig(ctx context.Context, raw []byte, rev int64) (won bool, err error) {
	key := r.configKey()
	tried := false
	err = r.retry(ctx, "write the network config", func() error {
		ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
		defer cancel()
		client, err := r.connect(ctx)
		if err != nil {
			return err
		}
		resp, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
			Then(clientv3.OpPut(key, string(raw))).
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
func holds(resp *clientv3.TxnResponse, raw []byte) bool {
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	return len(kvs) == 1 && bytes.Equal(kvs[0].Value, raw)
}
