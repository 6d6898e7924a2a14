package subnet

import (
	"context"
	"errors"
	"fmt"
)

// Release deletes the leases that carry nodeID and returns their names.
// Reservations are the operator's: they are left and returned as kept.
func (r *Registry) Release(ctx context.Context, nodeID string) (released, kept []string, err error) {
	if nodeID == "" {
		return nil, nil, errors.New("release: no node id; leases without one are not this node's alone")
	}
	s, err := r.Snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, l := range s.Leases {
		switch {
		case l.Err != nil || l.NodeID != nodeID:
		case l.Reserved():
			kept = append(kept, l.Name)
		default:
			won, err := r.remove(ctx, l)
			if err != nil {
				return released, kept, fmt.Errorf("release lease %s: %w", l.Name, err)
			}
			if !won {
				return released, kept, fmt.Errorf("release lease %s: it was changed meanwhile; does the daemon still run?", l.Name)
			}
			released = append(released, l.Name)
		}
	}
	return released, kept, nil
}
