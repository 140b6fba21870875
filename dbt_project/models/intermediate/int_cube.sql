with

counts as (

    select * from {{ ref('int_response_counts') }}
    where question_id is not null

),

blank as (

    select * from {{ ref('int_response_counts') }}
    where is_blank

),

question_map as (

    select * from {{ ref('question_map') }}

),

response_map as (

    select * from {{ ref('response_map') }}

),

weight_cells as (

    select * from {{ ref('int_weight_cells') }}

),

statuses as (

    select
        counts.survey_year,
        counts.trust,
        counts.cell,
        counts.age_band,
        counts.gender,
        counts.question_id,
        case
            when counts.person_status is not null then counts.person_status
            when
                counts.sent_past
                and counts.code is not null
                and response_map.treatment not in ('not_answered', 'not_routed')
                then 'routing_violation'
            when counts.sent_past or response_map.treatment = 'not_routed' then 'not_routed'
            when counts.code is null then 'not_answered'
            else response_map.treatment
        end as status,
        response_map.response,
        counts.n,
        counts.weight_sum,
        counts.weight_square_sum
    from counts
    inner join question_map
        on
            counts.survey_year = question_map.survey_year
            and counts.question_id = question_map.question_id
    left join response_map
        on
            counts.survey_year = response_map.survey_year
            and counts.question_id = response_map.question_id
            and counts.code = response_map.code
    union all
    select
        blank.survey_year,
        blank.trust,
        blank.cell,
        blank.age_band,
        blank.gender,
        question_map.question_id,
        blank.person_status as status,
        cast(null as string) as response,
        blank.n,
        blank.weight_sum,
        blank.weight_square_sum
    from blank
    inner join question_map on blank.survey_year = question_map.survey_year

),

final as (

    select
        statuses.survey_year,
        statuses.trust,
        coalesce(weight_cells.weight_cell, statuses.cell) as weight_cell,
        statuses.age_band,
        statuses.gender,
        statuses.question_id,
        statuses.status,
        case when statuses.status = 'answered' then statuses.response end as response,
        cast(sum(statuses.n) as bigint) as n,
        cast(sum(statuses.weight_sum) as decimal(38, 18)) as weight_sum,
        cast(sum(statuses.weight_square_sum) as decimal(38, 18)) as weight_square_sum
    from statuses
    left join weight_cells
        on
            statuses.survey_year = weight_cells.survey_year
            and statuses.trust = weight_cells.trust
            and statuses.cell = weight_cells.cell
    group by
        statuses.survey_year,
        statuses.trust,
        coalesce(weight_cells.weight_cell, statuses.cell),
        statuses.age_band,
        statuses.gender,
        statuses.question_id,
        statuses.status,
        case when statuses.status = 'answered' then statuses.response end

)

select * from final
