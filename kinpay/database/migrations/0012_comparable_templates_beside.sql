-- Templates that can be compared (vectors, rotated and encrypted), and at which sites a person is looked for.
-- What terminals handed over as an opaque blob stays what it was and is compared with nothing.
ALTER TABLE template
    ADD COLUMN modality text NOT NULL DEFAULT 'opaque' CHECK (modality IN ('opaque', 'face', 'palm', 'finger', 'voice')),
    ADD COLUMN dimension smallint CHECK (dimension BETWEEN 16 AND 4096),
    ADD COLUMN pictures smallint CHECK (pictures IN (1, 3)),
    ADD COLUMN rotation_version integer CHECK (rotation_version >= 1),
    ADD CONSTRAINT template_comparable CHECK (
        (modality = 'opaque') = (dimension IS NULL) AND (modality = 'opaque') = (pictures IS NULL)
        AND (modality = 'opaque') = (rotation_version IS NULL));

-- The secret rotations of an operator's vectors; the newest is in use. Their seeds lie in the keyring's folder.
CREATE TABLE rotation (
    operator_id uuid NOT NULL REFERENCES operator,
    version integer NOT NULL CHECK (version >= 1),
    begun_at timestamptz NOT NULL,
    retired_at timestamptz,                      -- since then no template is kept under it
    forgotten_at timestamptz,                    -- its seed is gone; copies of the database from before cannot be compared
    PRIMARY KEY (operator_id, version),
    CHECK (forgotten_at IS NULL OR retired_at <= forgotten_at)
);
-- The renewal walks along it.
CREATE INDEX template_rotated ON template (rotation_version, id) WHERE destroyed_at IS NULL AND rotation_version IS NOT NULL;

-- Where a person is looked for by their face.
CREATE TABLE gallery_member (
    site_id uuid NOT NULL REFERENCES site,
    person_id uuid NOT NULL REFERENCES person,
    reason text NOT NULL CHECK (reason IN ('enrolled_here', 'allowed')),
    joined_at timestamptz NOT NULL,
    PRIMARY KEY (site_id, person_id)
);
CREATE INDEX gallery_member_person ON gallery_member (person_id);

-- Moves with whatever changes who is found at a place: every process looks at it before each search.
CREATE TABLE gallery_place (
    id uuid PRIMARY KEY,                         -- a site, or an operator: everybody enrolled with them
    version bigint NOT NULL CHECK (version >= 1)
);
