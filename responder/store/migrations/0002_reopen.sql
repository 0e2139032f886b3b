-- Resolved incidents by key: an alert that comes back within its window opens the newest again.
CREATE INDEX incidents_resolved ON incidents (key) WHERE status = 'resolved';
