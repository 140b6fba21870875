with recursive

waves as (

    select * from {{ ref('waves') }}

),

known_cells as (

    select
        cells.survey_year,
        cells.trust,
        cells.cell,
        cells.gender,
        cells.gender_position,
        cells.age_position,
        cells.sampled,
        cells.responded,
        waves.min_cell,
        row_number() over (
            partition by cells.survey_year, cells.trust, cells.gender order by cells.age_position asc nulls last
        ) as place,
        count(*) over (partition by cells.survey_year, cells.trust, cells.gender) as places
    from {{ ref('int_cells') }} as cells
    inner join waves on cells.survey_year = waves.survey_year
    where cells.cell <> 'unknown' and waves.sample_frame <> 'none'

),

-- From the youngest cell of a gender upwards: a run of cells goes on until it is large enough.
walk as (

    select
        survey_year,
        trust,
        gender,
        place,
        places,
        min_cell,
        place as run,
        sampled as run_sampled,
        responded as run_responded
    from known_cells
    where place = 1

    union all

    select
        older.survey_year,
        older.trust,
        older.gender,
        older.place,
        older.places,
        older.min_cell,
        case when {{ large_enough('walk') }} then older.place else walk.run end as run,
        case when {{ large_enough('walk') }} then 0 else walk.run_sampled end + older.sampled as run_sampled,
        case when {{ large_enough('walk') }} then 0 else walk.run_responded end + older.responded as run_responded
    from walk
    inner join known_cells as older
        on
            walk.survey_year = older.survey_year
            and walk.trust = older.trust
            and walk.gender = older.gender
            and walk.place + 1 = older.place

),

-- The oldest run, where it is too small, joins the next younger one; where there is none, the gender is too small.
oldest_runs as (

    select
        walk.*,
        max(walk.run) over (partition by walk.survey_year, walk.trust, walk.gender) as oldest_run,
        bool_or(walk.place = walk.places and not coalesce({{ large_enough('walk') }}, false)) over (
            partition by walk.survey_year, walk.trust, walk.gender
        ) as oldest_too_small
    from walk

),

younger_runs as (

    select
        *,
        max(case when run < oldest_run then run end) over (partition by survey_year, trust, gender) as younger_run
    from oldest_runs

),

runs as (

    select
        survey_year,
        trust,
        gender,
        place,
        case when oldest_too_small and run = oldest_run and run > 1 then younger_run else run end as run,
        oldest_too_small and oldest_run = 1 as gender_too_small
    from younger_runs

),

spans as (

    select
        runs.survey_year,
        runs.trust,
        runs.gender,
        known_cells.gender_position,
        runs.run,
        runs.gender_too_small,
        min(known_cells.age_position) as youngest,
        max(known_cells.age_position) as oldest
    from runs
    inner join known_cells
        on
            runs.survey_year = known_cells.survey_year
            and runs.trust = known_cells.trust
            and runs.gender = known_cells.gender
            and runs.place = known_cells.place
    group by
        runs.survey_year,
        runs.trust,
        runs.gender,
        known_cells.gender_position,
        runs.run,
        runs.gender_too_small

),

-- A gender that is too small as a whole goes to another one: rather to one that is not too small itself, then rather
-- to one that has the same ages.
distances as (

    select
        small.survey_year,
        small.trust,
        small.gender,
        small.run,
        host.gender as host_gender,
        host.gender_position as host_gender_position,
        host.gender_too_small as host_too_small,
        host.run as host_run,
        greatest(0, host.youngest - small.oldest, small.youngest - host.oldest) as distance,
        min(greatest(0, host.youngest - small.oldest, small.youngest - host.oldest)) over (
            partition by small.survey_year, small.trust, small.gender, host.gender
        ) as nearest_distance
    from spans as small
    inner join spans as host
        on
            small.survey_year = host.survey_year
            and small.trust = host.trust
            and small.gender <> host.gender
    where small.gender_too_small

),

hosts as (

    select
        *,
        dense_rank() over (
            partition by survey_year, trust, gender
            order by
                host_too_small asc nulls last,
                nearest_distance > 0 asc nulls last,
                host_gender_position asc nulls last
        ) as gender_choice
    from distances

),

-- There it joins every run that overlaps its ages (the nearest, where none does).
nearest as (

    select * from hosts
    where gender_choice = 1

),

joined as (

    select
        survey_year,
        trust,
        gender,
        run,
        host_gender,
        min(host_run) as first_host_run,
        max(host_run) as last_host_run
    from nearest
    where distance = nearest_distance
    group by survey_year, trust, gender, run, host_gender

),

-- Two small genders that join a common run of their host become one group.
islands as (

    select
        *,
        max(last_host_run) over (
            partition by survey_year, trust, host_gender
            order by first_host_run asc nulls last, last_host_run asc nulls last, gender asc nulls last
            rows between unbounded preceding and 1 preceding
        ) as reached
    from joined

),

numbered_islands as (

    select
        *,
        sum(case when reached is null or first_host_run > reached then 1 else 0 end) over (
            partition by survey_year, trust, host_gender
            order by first_host_run asc nulls last, last_host_run asc nulls last, gender asc nulls last
            rows between unbounded preceding and current row
        ) as island
    from islands

),

island_groups as (

    select
        survey_year,
        trust,
        gender,
        run,
        host_gender,
        min(first_host_run) over (partition by survey_year, trust, host_gender, island) as first_host_run,
        max(last_host_run) over (partition by survey_year, trust, host_gender, island) as last_host_run
    from numbered_islands

),

whole_trust as (

    select
        survey_year,
        trust,
        bool_and(gender_too_small) and count(distinct gender) > 1 as all_genders_too_small
    from spans
    group by survey_year, trust

),

grouped as (

    select
        known_cells.survey_year,
        known_cells.trust,
        known_cells.cell,
        known_cells.gender_position,
        known_cells.age_position,
        known_cells.sampled,
        known_cells.responded,
        case
            when whole_trust.all_genders_too_small then 'all'
            when guest.gender is not null then guest.host_gender || ' ' || cast(guest.first_host_run as string)
            when host.host_gender is not null then host.host_gender || ' ' || cast(host.first_host_run as string)
            else runs.gender || ' ' || cast(runs.run as string)
        end as cell_group
    from known_cells
    inner join runs
        on
            known_cells.survey_year = runs.survey_year
            and known_cells.trust = runs.trust
            and known_cells.gender = runs.gender
            and known_cells.place = runs.place
    inner join whole_trust
        on
            known_cells.survey_year = whole_trust.survey_year
            and known_cells.trust = whole_trust.trust
    left join island_groups as guest
        on
            runs.survey_year = guest.survey_year
            and runs.trust = guest.trust
            and runs.gender = guest.gender
            and runs.run = guest.run
    left join (
        select distinct
            survey_year,
            trust,
            host_gender,
            first_host_run,
            last_host_run
        from island_groups
    ) as host
        on
            runs.survey_year = host.survey_year
            and runs.trust = host.trust
            and runs.gender = host.host_gender
            and runs.run between host.first_host_run and host.last_host_run

),

-- A group is named after its member with the most respondents, the oldest among equals.
final as (

    select
        survey_year,
        trust,
        cell,
        sampled,
        responded,
        first_value(cell) over (
            partition by survey_year, trust, cell_group
            order by responded desc nulls last, age_position desc nulls last, gender_position asc nulls last
            rows between unbounded preceding and unbounded following
        ) as weight_cell
    from grouped

)

select * from final
