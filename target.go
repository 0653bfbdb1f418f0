package realtime

// Target says which connections are meant: those that match every field that is
// set. With none set, none is.
type Target struct {
	Connection string // as [Client.ID] returns it
	User       string // alone it means the user of that name in every tenant
	Session    string
	TokenID    string
	Tenant     string
}

func (t Target) matches(c *Client) bool {
	id := c.identity.Load()
	return id != nil && t != (Target{}) &&
		(t.Connection == "" || t.Connection == c.id) && (t.User == "" || t.User == id.User) &&
		(t.Session == "" || t.Session == id.Session) && (t.TokenID == "" || t.TokenID == id.TokenID) &&
		(t.Tenant == "" || t.Tenant == id.Tenant)
}

// meant returns the connections that t means. A user's are found by an index, all
// others by looking at every connection.
func (n *node) meant(t Target) []*Client {
	var all []*Client
	if t.User != "" && (t.Tenant != "" || !n.tenanted.Load()) {
		all = n.seats.of((&Identity{User: t.User, Tenant: t.Tenant}).seat())
	} else if t != (Target{}) {
		all = n.list()
	}
	meant := all[:0]
	for _, c := range all {
		if t.matches(c) {
			meant = append(meant, c)
		}
	}
	return meant
}
