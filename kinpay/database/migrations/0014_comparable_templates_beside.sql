-- Templates that can be compared (vectors, rotated and encrypted), and at which sites a person is looked for.
-- What terminals handed over as an opaque blob stays what it was and is compared with nothing.
CREATE TABLE template_vector (
    template_id uuid PRIMARY KEY REFERENCES template,
    modality text NOT NULL CHECK (modality IN ('face', 'palm', 'finger', 'voice')),
    dimension smallint NOT NULL CHECK (dimension BETWEEN 16 AND 4096),
    pictures smallint NOT NULL CHECK (pictures IN (1, 3)),
    rotation_version integer NOT NULL CHECK (rotation_version >= 1)
);
-- A renewal walks along it.
CREATE INDEX template_vector_rotation ON template_vector (rotation_version, template_id);

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
