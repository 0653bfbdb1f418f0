package main

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

// redisTime is how long Redis may take for one command of the REST API.
const redisTime = 5 * time.Second

// redisStore keeps everything in Redis, for all nodes. Each tenant has a hash of its
// objects and one of the heads of its documents.
type redisStore struct{ client rueidis.Client }

func objectsKey(tenant string) string { return "document:objects:" + tenant }
func headsKey(tenant string) string   { return "document:heads:" + tenant }

func (s *redisStore) do(command rueidis.Completed) rueidis.RedisResult {
	ctx, cancel := context.WithTimeout(context.Background(), redisTime)
	defer cancel()
	return s.client.Do(ctx, command)
}

func (s *redisStore) put(tenant string, objects ...object) error {
	if len(objects) == 0 {
		return nil
	}
	command := s.client.B().Hset().Key(objectsKey(tenant)).FieldValue()
	for _, o := range objects {
		command = command.FieldValue(string(o.kind)+" "+o.sha, rueidis.BinaryString(o.content))
	}
	return s.do(command.Build()).Error()
}

func (s *redisStore) get(tenant string, k kind, sha string) ([]byte, error) {
	return s.field(objectsKey(tenant), string(k)+" "+sha)
}

func (s *redisStore) field(key, name string) ([]byte, error) {
	value, err := s.do(s.client.B().Hget().Key(key).Field(name).Build()).AsBytes()
	if rueidis.IsRedisNil(err) {
		return nil, errNotFound
	}
	return value, err
}

func (s *redisStore) create(tenant, document, head string) error {
	created, err := s.do(s.client.B().Hsetnx().Key(headsKey(tenant)).Field(document).Value(head).Build()).AsBool()
	if err == nil && !created {
		err = errTaken
	}
	return err
}

func (s *redisStore) head(tenant, document string) (string, error) {
	head, err := s.field(headsKey(tenant), document)
	return string(head), err
}

// moveScript sets a head that still is the old one.
var moveScript = rueidis.NewLuaScript(`
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1`)

func (s *redisStore) move(tenant, document, old, head string) error {
	ctx, cancel := context.WithTimeout(context.Background(), redisTime)
	defer cancel()
	moved, err := moveScript.Exec(ctx, s.client, []string{headsKey(tenant)}, []string{document, old, head}).AsBool()
	if err == nil && !moved {
		err = errMoved
	}
	return err
}

// close implements [store]. The client is closed by whoever opened it.
func (s *redisStore) close() error { return nil }
